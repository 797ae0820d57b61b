"""From events to decisions: jails, exact windows, the evidence kept, who is denied and for how long. Pure."""
