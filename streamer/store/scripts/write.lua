-- Writes one change of a partition: all of it, or nothing.
--
-- KEYS  meta, due, outbox, quarantine, open, then the key of each state
-- ARGV  1 epoch, 2 writes that came before, 3 next offset, 4 highest event time (3 and 4: '' = as it
--       is), 5 the length of each state, then of each outbox entry, then of what else is listed, as
--       big-endian 32 bits, 6 all of these joined, 7 MessagePack of {score, user, score, user …} for those
--       due, {user …} for those no longer due, how many outbox entries there are, {user, number of a value
--       after the states, …} for what is listed as open, and {user …} for what no longer is, 8 trail,
--       9 lead, 10 tally (all three: '' = as it is), 11 '1' = the list is whole now, 12 most customers in
--       quarantine, then user and bytes of each one to put there
-- Returns the name of the outcome.
--
-- Packed because the client spends most of a write on putting arguments together, 1 to 2 µs each:
-- this way there is one for each customer instead of four. (Not all of it is MessagePack because
-- the server's reader of it knows text and no bytes.)
local meta, due, outbox, quarantine, open = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local mine, expected = tonumber(ARGV[1]), tonumber(ARGV[2])

local stored = redis.call('HMGET', meta, 'epoch', 'sequence', 'open')
local epoch, sequence = tonumber(stored[1] or '0'), tonumber(stored[2] or '0')
if epoch > mine then return 'FENCED' end
if epoch < mine or sequence < expected then return 'LOST_WRITES' end
if sequence == expected + 1 then return 'ALREADY_APPLIED' end
if sequence > expected then return 'FENCED' end

-- A key of another type must fail here: a script that fails later has written half.
redis.call('ZCARD', due)
redis.call('LLEN', outbox)
if #ARGV > 12 then redis.call('HLEN', quarantine) end

local lengths, values = ARGV[5], ARGV[6]
local instants, silent, sent, opened, closed = unpack(cmsgpack.unpack(ARGV[7]))
local last_state, last_value = #KEYS - 5, #lengths / 4
local relisted = #opened + #closed > 0 or ARGV[11] == '1'
if relisted then redis.call('HLEN', open) end

-- Lua's unpack puts everything on a stack of 8,000.
local CHUNK = 4000

local function each_chunk(list, command, key)
  for from = 1, #list, CHUNK do
    redis.call(command, key, unpack(list, from, math.min(from + CHUNK - 1, #list)))
  end
end

local position, at, length = 1, 1, 0
local function next_value()
  length, at = struct.unpack('>i4', lengths, at)
  local from = position
  position = from + length
  return string.sub(values, from, position - 1)
end

-- Before the states are replaced: what is damaged is put aside first.
for i = 13, #ARGV, 2 do
  local full = redis.call('HLEN', quarantine) >= tonumber(ARGV[12])
  if not full or redis.call('HEXISTS', quarantine, ARGV[i]) == 1 then
    redis.call('HSET', quarantine, ARGV[i], ARGV[i + 1])
  end
end

local settings, size = {}, 0
for i = 1, last_state do
  settings[size + 1] = KEYS[5 + i]
  settings[size + 2] = next_value()
  size = size + 2
  if size == CHUNK or i == last_state then
    redis.call('MSET', unpack(settings, 1, size))
    size = 0
  end
end

local entries, said = {}, {}
for i = 1, last_value - last_state do
  entries[i] = next_value()
  if i <= sent then said[i] = entries[i] end
end
for i = 2, #opened, 2 do opened[i] = entries[opened[i]] end

-- Commands that need memory first: a full server refuses the first of them, and after it none.
each_chunk(instants, 'ZADD', due)
each_chunk(said, 'RPUSH', outbox)
each_chunk(opened, 'HSET', open)

local made = string.format('%.0f', expected + 1)
local fields = {'sequence', made, 'lister', made}
if ARGV[3] ~= '' then
  fields[#fields + 1] = 'next'
  fields[#fields + 1] = ARGV[3]
end
if ARGV[4] ~= '' then
  fields[#fields + 1] = 'high_ts'
  fields[#fields + 1] = ARGV[4]
end
if ARGV[8] ~= '' then
  fields[#fields + 1] = 'trail'
  fields[#fields + 1] = ARGV[8]
end
if ARGV[9] ~= '' then
  fields[#fields + 1] = 'lead'
  fields[#fields + 1] = ARGV[9]
end
if ARGV[10] ~= '' then
  fields[#fields + 1] = 'tally'
  fields[#fields + 1] = ARGV[10]
end
each_chunk(closed, 'HDEL', open)
if relisted then
  fields[#fields + 1] = 'listed'
  fields[#fields + 1] = made
  if stored[3] or ARGV[11] == '1' then
    fields[#fields + 1] = 'open'
    fields[#fields + 1] = redis.call('HLEN', open)
  end
end
redis.call('HSET', meta, unpack(fields))
each_chunk(silent, 'ZREM', due)
return 'APPLIED'
