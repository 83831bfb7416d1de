-- Reads acknowledged messages that are still kept.
--
-- KEYS  meta, feed
-- ARGV  1 how many there were before the first that is wanted, 2 how many are wanted at most
-- Returns how many there were before the first one returned, then those.
local said = tonumber(redis.call('HGET', KEYS[1], 'outbox_first') or '0')
local begin = said - redis.call('LLEN', KEYS[2])
local first = math.min(math.max(tonumber(ARGV[1]), begin), said)
return {string.format('%.0f', first),
  redis.call('LRANGE', KEYS[2], first - begin, first - begin + tonumber(ARGV[2]) - 1)}
