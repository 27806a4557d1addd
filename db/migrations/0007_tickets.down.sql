DROP TABLE identity.tickets;
