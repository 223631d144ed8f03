-- Who may read the channels that have members: activities, organisations, desks of the back office.
-- depends: 0009_roles

CREATE TABLE channel_members (
    channel    text        COLLATE "C" NOT NULL,
    user_id    text        COLLATE "C" NOT NULL,
    granted_at timestamptz NOT NULL DEFAULT now(),
    CONSTRAINT channel_members_pkey PRIMARY KEY (channel, user_id)
);

CREATE INDEX channel_members_user_idx ON channel_members (user_id, channel);
