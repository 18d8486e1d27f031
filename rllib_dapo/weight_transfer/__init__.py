"""The ways of the weights from the Learners to the engines, behind one interface."""
