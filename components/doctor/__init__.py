"""What works on the devices that a run asks for."""

from fipo_kfp.components.doctor.component import doctor

__all__ = ["doctor"]
