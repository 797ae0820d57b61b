"""The probe process: sees packets, names scans, writes PortSentry's lines. Standard library only."""
