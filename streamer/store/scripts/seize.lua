-- Claims a partition in order to move customers: from then on, no worker can claim or write to it
-- until the topic's own count says the new one.
--
-- KEYS  meta, due, outbox
-- ARGV  1 old partition count, 2 new one, 3 schema that the caller knows, 4 id of the Kafka cluster
-- Returns {"OK", epoch, sequence, next, high_ts, first, trail, lead, tally, false}, or why not:
--         {"PARTITIONS", stored} | {"SCHEMA", stored} | {"CLUSTER", stored} | {"FOREIGN"}.
local meta, due, outbox = KEYS[1], KEYS[2], KEYS[3]
local stored = redis.call('HMGET', meta, 'schema', 'partitions', 'epoch', 'sequence', 'next', 'high_ts', 'first',
  'trail', 'lead', 'tally', 'cluster')

if redis.call('EXISTS', meta) == 1 then
  local schema = tonumber(stored[1] or '')
  if not schema then return {'FOREIGN'} end
  if schema > tonumber(ARGV[3]) then return {'SCHEMA', stored[1]} end
  if stored[11] ~= ARGV[4] then return {'CLUSTER', stored[11] or ''} end
  local partitions = tonumber(stored[2] or '')
  if partitions ~= tonumber(ARGV[1]) and partitions ~= tonumber(ARGV[2]) then
    return {'PARTITIONS', stored[2] or '0'}
  end
elseif redis.call('EXISTS', due, outbox) > 0 then
  return {'FOREIGN'}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local epoch = string.format('%.0f', math.max(tonumber(stored[3] or '0') + 1, now))
redis.call('HSET', meta, 'epoch', epoch, 'partitions', ARGV[2], 'schema', ARGV[3], 'cluster', ARGV[4])
-- Customers will be here whose orders are in the logs of other partitions: no log is whole any more.
redis.call('HSET', meta, 'first', '-1')
-- And their open warnings are to be listed here.
redis.call('HDEL', meta, 'open')
redis.call('HSETNX', meta, 'sequence', '0')
redis.call('HSETNX', meta, 'outbox_first', '0')
return {'OK', epoch, stored[4] or '0', stored[5], stored[6], '-1', stored[8], stored[9], stored[10], false}
