"""How good the model is: distances between drawn and real pictures, prompt alignment, and the loss on data that it never saw."""
