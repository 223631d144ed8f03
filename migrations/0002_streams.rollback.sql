DROP TABLE dead_letters;
DROP TABLE consumer_positions;
DROP TABLE event_log;
DROP TABLE event_log_shards;
DROP TABLE event_log_epoch;
DROP TABLE outbox;
