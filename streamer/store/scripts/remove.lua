-- Removes customers from a partition: all that is kept of them, or nothing. May be repeated.
--
-- KEYS  meta, due, quarantine, then the key of each state
-- ARGV  1 epoch, 2 writes that came before, 3 next offset ('' = as it is), then each customer
-- Returns the name of the outcome.
local meta, due, quarantine = KEYS[1], KEYS[2], KEYS[3]
local mine, expected = tonumber(ARGV[1]), tonumber(ARGV[2])

local stored = redis.call('HMGET', meta, 'epoch', 'sequence')
local epoch, sequence = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
if epoch > mine then return 'FENCED' end
if epoch < mine or sequence < expected then return 'LOST_WRITES' end
if sequence == expected + 1 then return 'ALREADY_APPLIED' end
if sequence > expected then return 'FENCED' end

-- A key of another type must fail here: a script that fails later has written half.
redis.call('ZCARD', due)
redis.call('HLEN', quarantine)

local fields = {'sequence', string.format('%.0f', expected + 1)}
if ARGV[3] ~= '' then
  fields[#fields + 1] = 'next'
  fields[#fields + 1] = ARGV[3]
end
redis.call('HSET', meta, unpack(fields))
for i = 4, #ARGV do
  redis.call('UNLINK', KEYS[i])
  redis.call('ZREM', due, ARGV[i])
  redis.call('HDEL', quarantine, ARGV[i])
end
return 'APPLIED'
