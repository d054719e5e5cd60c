"""Who answers a model step: providers behind one narrow interface."""
