"""What a step reads from outside its run, and the digests of its contents: a name says too little."""

from fipo.inputs.external import ExternalInput, describe, external_inputs

__all__ = ["ExternalInput", "describe", "external_inputs"]
