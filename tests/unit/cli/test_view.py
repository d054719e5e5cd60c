"""What a client knows after each event: the fold is the same live, after a reconnect and from the start."""

import pytest

from cli.view import Gap, SessionView
from tests.unit.cli.demo_acts import MODEL_STEP, SESSION, SUBTASK, acts, said, step_started, whole_log
from tests.unit.cli.stand_in import RUN, event


def folded(count: int | None = None) -> SessionView:
    view = SessionView(SESSION)
    for each in whole_log()[:count]:
        view.apply(each)
    return view


def test_the_whole_log_tells_the_end_of_it() -> None:
    view = folded()
    run = view.run(RUN)
    assert (view.state, run.state, run.usage.model_calls) == ("COMPLETED", "COMPLETED", 3)
    assert run.plan is not None
    assert run.plan.state == "APPROVED"
    assert run.plan.subtasks[SUBTASK].state == "SUCCEEDED"
    assert view.messages[run.final_message_id] == "Done."


def test_an_approval_is_pending_until_it_is_resolved() -> None:
    view = folded(9)
    (approval,) = view.approvals.values()
    view.apply(event(sequence=10, approval_resolved={"approval_id": approval.id, "run_id": RUN}))
    assert view.approvals == {}


def test_a_repeated_event_changes_nothing() -> None:
    view = folded()
    again = folded()
    assert not any(again.apply(each) for each in whole_log() if each.sequence)
    assert again == view


def test_a_missing_event_is_noticed() -> None:
    view = folded(3)
    with pytest.raises(Gap):
        view.apply(whole_log()[4])


def test_deltas_gather_until_the_step_has_finished() -> None:
    log = whole_log()
    view = SessionView(SESSION)
    heard = []
    for each in log:
        view.apply(each)
        if MODEL_STEP in view.run(RUN).steps:
            heard.append(view.run(RUN).steps[MODEL_STEP].said)
    assert heard[:4] == ["", "I wri", "I write it.", ""]


def test_words_of_an_earlier_dispatch_do_not_count() -> None:
    view = SessionView(SESSION)
    view.apply(step_started(MODEL_STEP))
    view.apply(said("half a th"))
    view.apply(step_started(MODEL_STEP, dispatch=2))
    view.apply(said("ought", dispatch=1))
    view.apply(said("A whole thought", dispatch=2))
    assert view.run(RUN).steps[MODEL_STEP].said == "A whole thought"


def test_a_superseded_attempt_takes_its_words_back() -> None:
    view = SessionView(SESSION)
    view.apply(step_started(MODEL_STEP))
    view.apply(said("no longer true"))
    view.apply(event(attempt_superseded={"run_id": RUN, "attempt_id": "attempt-1"}))
    assert view.run(RUN).steps[MODEL_STEP].said == ""


def test_an_unknown_payload_is_passed_over() -> None:
    view = SessionView(SESSION)
    assert view.apply(event(sequence=1))
    assert view.last_sequence == 1


def test_a_watcher_may_join_in_the_middle() -> None:
    view = SessionView(SESSION, last_sequence=20)
    view.apply(event(sequence=21, subtask_state_changed={"run_id": RUN, "subtask_id": "unheard of"}))
    view.apply(event(sequence=22, step_finished={"run_id": RUN, "step_id": "unheard of"}))
    assert view.last_sequence == 22


def test_acts_end_where_somebody_must_decide() -> None:
    assert [act[-1].WhichOneof("payload") for act in acts()[:2]] == ["approval_requested"] * 2
