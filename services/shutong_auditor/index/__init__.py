"""What the audit says, in tables to be asked; made from topic `audit` alone, at any time anew."""
