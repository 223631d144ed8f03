DROP TABLE emails;
DROP TABLE sessions;
DROP TABLE sign_ups;
DROP TABLE passwords;
DROP TABLE users;
