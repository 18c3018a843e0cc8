"""The maths of FIPO: tensors in, tensors out; needs only torch."""
