-- name: grant_membership$
-- Let a user read a channel; NULL when that was so before.
INSERT INTO channel_members (channel, user_id) VALUES (:channel, :user_id)
ON CONFLICT ON CONSTRAINT channel_members_pkey DO NOTHING
RETURNING true;

-- name: withdraw_membership$
-- Let a user read a channel no longer; NULL when there was nothing to withdraw.
DELETE FROM channel_members WHERE channel = :channel AND user_id = :user_id RETURNING true;

-- name: no_members_among*
-- Those of the pairs of user and channel that are no memberships: few, when open streams ask.
SELECT asked.user_id, asked.channel
FROM unnest(:users::text[], :channels::text[]) AS asked (user_id, channel)
WHERE NOT EXISTS (
    SELECT FROM channel_members AS held WHERE held.channel = asked.channel AND held.user_id = asked.user_id
);

-- name: members_of_channel*
-- A channel's members, in the order of their ids.
SELECT user_id, granted_at FROM channel_members WHERE channel = :channel ORDER BY user_id;

-- name: channels_of_member*
-- The channels that a user is a member of, in the order of their names.
SELECT channel, granted_at FROM channel_members WHERE user_id = :user_id ORDER BY channel;
