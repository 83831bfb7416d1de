-- Removes customers from a partition: all that is kept of them, or nothing. May be repeated.
--
-- KEYS  meta, due, quarantine, open, feed, then the key of each state
-- ARGV  1 epoch, 2 writes that came before, 3 next offset ('' = as it is), 4 how those messages of the feed
--       begin that are to be blotted out ('' = none), 5 prefix of where the version before had its keys ('' =
--       nothing is left), then each customer
-- Returns the name of the outcome.
local meta, due, quarantine, open, feed = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mine, expected = tonumber(ARGV[1]), tonumber(ARGV[2])

local stored = redis.call('HMGET', meta, 'epoch', 'sequence', 'open')
local epoch, sequence = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
if epoch > mine then return 'FENCED' end
if epoch < mine or sequence < expected then return 'LOST_WRITES' end
if sequence == expected + 1 then return 'ALREADY_APPLIED' end
if sequence > expected then return 'FENCED' end

-- A key of another type must fail here: a script that fails later has written half.
redis.call('ZCARD', due)
redis.call('HLEN', quarantine)
redis.call('HLEN', open)
redis.call('LLEN', feed)

local made = string.format('%.0f', expected + 1)
local fields = {'sequence', made, 'lister', made}
if ARGV[3] ~= '' then
  fields[#fields + 1] = 'next'
  fields[#fields + 1] = ARGV[3]
end
local prefix, former = string.sub(meta, 1, -5), ARGV[5]
local NEVER = string.rep('\255', 6)

-- From a list of who is due, one of another type left as it is; how many of them it had.
local function taken(instant, users)
  local key = prefix .. 'due:' .. instant
  local count = redis.pcall('SREM', key, unpack(users))
  if redis.call('EXISTS', key) == 0 then redis.call('ZREM', due, instant) end
  return count
end

-- Whom the list that their record names does not have: the record may be damaged, and any list may have them.
local missed = {}
local listed = 0
for i = 6, #ARGV do
  local head = redis.pcall('GETRANGE', KEYS[i], 0, 5)
  local told = type(head) == 'string' and #head == 6 and head ~= NEVER
  if not told or taken(string.format('%.0f', struct.unpack('>I6', head) - 2 ^ 47), {ARGV[i]}) ~= 1 then
    missed[#missed + 1] = ARGV[i]
  end
  redis.call('UNLINK', KEYS[i])
  if former ~= '' then
    redis.call('ZREM', former .. 'due', ARGV[i])
    redis.call('UNLINK', former .. 'c:' .. ARGV[i])
  end
  redis.call('HDEL', quarantine, ARGV[i])
  listed = listed + redis.call('HDEL', open, ARGV[i])
end
if #missed > 0 then
  for _, instant in ipairs(redis.call('ZRANGE', due, 0, -1)) do taken(instant, missed) end
end
if listed > 0 then
  fields[#fields + 1] = 'listed'
  fields[#fields + 1] = made
  if stored[3] then
    fields[#fields + 1] = 'open'
    fields[#fields + 1] = redis.call('HLEN', open)
  end
end
if ARGV[4] ~= '' then
  local said = ARGV[4]
  fields[#fields + 1] = 'erased'
  fields[#fields + 1] = made
  for i, entry in ipairs(redis.call('LRANGE', feed, 0, -1)) do
    if string.sub(entry, 1, #said) == said then redis.call('LSET', feed, i - 1, '') end
  end
end
redis.call('HSET', meta, unpack(fields))
return 'APPLIED'
