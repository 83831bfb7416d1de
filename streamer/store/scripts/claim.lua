-- Claims a partition: a new epoch, later than all before it.
--
-- KEYS  meta, due, outbox, open
-- ARGV  1 partition count, 2 schema that the caller knows, 3 where the log begins, 4 id of the topic
--       ('' = the broker has none), 5 id of the Kafka cluster
-- Returns {"OK", epoch, sequence, next, high_ts, first, trail, lead, tally, listed} (false where unset), or why not: {"PARTITIONS", stored} | {"SCHEMA", stored} | {"TOPIC", stored} |
--         {"CLUSTER", stored} | {"FOREIGN"}.
--
-- The epoch is the server's clock in microseconds where that is later than the epoch before. A plain
-- counter would give the same epoch twice when the server loses its last writes and is claimed
-- again, and then neither of the two owners would be fenced.
local meta, due, outbox, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4]
local stored = redis.call('HMGET', meta, 'schema', 'partitions', 'epoch', 'sequence', 'next', 'high_ts', 'first',
  'topic_id', 'trail', 'lead', 'tally', 'open', 'lister', 'cluster')

if redis.call('EXISTS', meta) == 1 then
  local schema = tonumber(stored[1] or '')
  if not schema then return {'FOREIGN'} end
  if schema > tonumber(ARGV[2]) then return {'SCHEMA', stored[1]} end
  if stored[14] ~= ARGV[5] then return {'CLUSTER', stored[14] or ''} end
  if tonumber(stored[2] or '') ~= tonumber(ARGV[1]) then return {'PARTITIONS', stored[2] or '0'} end
  if stored[5] and stored[8] and ARGV[4] ~= '' and stored[8] ~= ARGV[4] then
    return {'TOPIC', stored[8]}
  end
elseif redis.call('EXISTS', due, outbox) > 0 then
  return {'FOREIGN'}
end

local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local epoch = string.format('%.0f', math.max(tonumber(stored[3] or '0') + 1, now))
redis.call('HSET', meta, 'epoch', epoch, 'partitions', ARGV[1], 'schema', ARGV[2], 'cluster', ARGV[5])
redis.call('HSETNX', meta, 'sequence', '0')
redis.call('HSETNX', meta, 'outbox_first', '0')
local first = stored[7] or '0'
if not stored[5] and first ~= '-1' then
  -- Nothing has been applied: the states will be those of the log from here on.
  first = ARGV[3]
  redis.call('HSET', meta, 'first', first)
end
if ARGV[4] ~= '' then redis.call('HSET', meta, 'topic_id', ARGV[4]) end
-- The list of open warnings is whole where it is as long as the last write left it, and that write was of a
-- version that keeps it.
local sequence = stored[4] or '0'
local listed = stored[12]
local count = redis.call('HLEN', open)
if not stored[5] and sequence == '0' and not listed and count == 0 then
  listed = '0'
  redis.call('HSET', meta, 'open', listed, 'lister', sequence)
elseif listed and (tonumber(listed) ~= count or stored[13] ~= sequence) then
  listed = false
  redis.call('HDEL', meta, 'open')
end
return {'OK', epoch, stored[4] or '0', stored[5], stored[6], first, stored[9], stored[10], stored[11], listed}
