-- Drops from the outbox what the broker has acknowledged, and keeps the last of it in the feed. May be
-- repeated.
--
-- KEYS  meta, outbox, feed
-- ARGV  1 epoch, 2 number of the first entry to drop, 3 how many, 4 most entries in the feed
-- Returns the name of the outcome.
local meta, outbox, feed = KEYS[1], KEYS[2], KEYS[3]
local mine, first, count = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])

local stored = redis.call('HMGET', meta, 'epoch', 'outbox_first')
local epoch, kept_first = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
if epoch > mine then return 'FENCED' end
if epoch < mine then return 'LOST_WRITES' end

local surplus = first + count - kept_first
if surplus <= 0 then return 'ALREADY_APPLIED' end
if kept_first < first or surplus > redis.call('LLEN', outbox) then return 'LOST_WRITES' end

local CHUNK = 4000
for from = 0, surplus - 1, CHUNK do
  redis.call('RPUSH', feed, unpack(redis.call('LRANGE', outbox, from, math.min(from + CHUNK, surplus) - 1)))
end
redis.call('LTRIM', feed, -tonumber(ARGV[4]), -1)
redis.call('LTRIM', outbox, surplus, -1)
redis.call('HSET', meta, 'outbox_first', string.format('%.0f', kept_first + surplus))
return 'APPLIED'
