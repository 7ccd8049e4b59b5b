"""The control plane: stores runs, launches them, keeps them alive, and shows what they make. It never imports the trainer."""
