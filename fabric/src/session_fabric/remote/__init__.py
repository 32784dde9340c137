"""A broker for those who have no rights at the broker: every call is asked of the fabric's relay (`relay`)."""
