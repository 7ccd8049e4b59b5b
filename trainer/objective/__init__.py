"""What is added to the flow-matching loss: perceptual distances and representation alignment, each a function of tensors."""
