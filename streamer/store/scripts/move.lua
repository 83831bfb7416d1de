-- Moves what the version before has left of a partition, but for its customers and their due times, which move as
-- they are written; and leaves a meta behind that the version before refuses. May be repeated.
--
-- KEYS  meta, outbox, feed, open, quarantine as they were, then as they are now
-- ARGV  1 schema of now, 2 id of the Kafka cluster
-- Returns {"OK"}, or why not: {"SCHEMA", stored} | {"FOREIGN"}.
local half = #KEYS / 2
local was, is = KEYS[1], KEYS[half + 1]
if redis.call('EXISTS', is) == 1 or redis.call('EXISTS', was) == 0 then return {'OK'} end
local schema = tonumber(redis.call('HGET', was, 'schema') or '')
if not schema then return {'FOREIGN'} end
if schema > tonumber(ARGV[1]) then return {'SCHEMA', tostring(schema)} end
if schema == tonumber(ARGV[1]) then return {'FOREIGN'} end

for i = 1, half do
  if redis.call('EXISTS', KEYS[i]) == 1 then redis.call('RENAME', KEYS[i], KEYS[half + i]) end
end
redis.call('HSET', is, 'schema', ARGV[1], 'cluster', ARGV[2])
redis.call('HSET', was, 'schema', ARGV[1])
return {'OK'}
