-- Writes one change of a partition: all of it, or nothing.
--
-- KEYS  meta, due, outbox, quarantine, open, then the key of each customer, those with a new state first
-- ARGV  1 epoch, 2 writes that came before, 3 next offset, 4 highest event time (3 and 4: '' = as it
--       is), 5 the length of each state, then of each outbox entry, then of what else is listed, as
--       big-endian 32 bits, 6 all of these joined, 7 MessagePack of how many states there are, {when each customer
--       is due, in ms; true = as it was, false = never}, how many outbox entries there are, {user, number of a
--       value after the states, …} for what is listed as open, and {user …} for what no longer is, 8 trail,
--       9 lead, 10 tally (all three: '' = as it is), 11 '1' = the list is whole now, 12 prefix of where the version
--       before had its keys ('' = nothing is left), 13 most customers in quarantine, then user and bytes of each
--       one to put there
-- Returns the name of the outcome.
--
-- A customer's record is six bytes that say when they are due, and the state. `due` has the instants, `due:<instant>`
-- who is due then; these keys are not among KEYS, but of the same slot.
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

-- A list of another type must fail before anything is written: a script that fails later has written half.
redis.call('ZCARD', due)
redis.call('LLEN', outbox)
if #ARGV > 13 then redis.call('HLEN', quarantine) end

local prefix, former = string.sub(meta, 1, -5), ARGV[12]
local lengths, values = ARGV[5], ARGV[6]
local last_state, instants, sent, opened, closed = unpack(cmsgpack.unpack(ARGV[7]))
local last_value = #lengths / 4
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

local NEVER = string.rep('\255', 6)
local function put(lists, head, user)
  local list = lists[head]
  if list then list[#list + 1] = user else lists[head] = {user} end
end
local function instant_of(head) return string.format('%.0f', struct.unpack('>I6', head) - 2 ^ 47) end

-- Of whoever was damaged, what the record says of when they are due is worth nothing.
local rebuilt = {}
for i = 14, #ARGV, 2 do rebuilt[ARGV[i]] = true end

-- Whatever is read is read before anything is written.
local settings, heads, joined, left, moved = {}, {}, {}, {}, {}
for i = 1, #KEYS - 5 do
  local key, instant = KEYS[5 + i], instants[i]
  local user = string.sub(key, #prefix + 3)
  -- A key of another type is damage, and replaced.
  local was = redis.pcall('GETRANGE', key, 0, 5)
  local foreign = type(was) == 'table'
  if type(was) ~= 'string' or #was < 6 or rebuilt[user] then was = nil end
  local before
  if former ~= '' and not was then
    before = redis.pcall('GET', former .. 'c:' .. user)
    if type(before) ~= 'string' then before = nil end
    local score = redis.call('ZSCORE', former .. 'due', user)
    if instant == true and score then instant = tonumber(score) end
    moved[#moved + 1] = user
  end
  local head
  if instant == true then
    head = was or NEVER
  else
    head = instant and struct.pack('>I6', instant + 2 ^ 47) or NEVER
  end
  if rebuilt[user] then rebuilt[user] = head end
  if head ~= was then
    if was and was ~= NEVER then put(left, was, user) end
    if head ~= NEVER then put(joined, head, user) end
  end
  if i <= last_state then
    settings[#settings + 1] = key
    settings[#settings + 1] = head .. next_value()
  elseif before then
    settings[#settings + 1] = key
    settings[#settings + 1] = head .. before
  elseif head ~= (was or NEVER) and not foreign then
    heads[#heads + 1] = {key, head}
  end
end

for _, lists in ipairs({joined, left}) do
  for head in pairs(lists) do redis.call('SCARD', prefix .. 'due:' .. instant_of(head)) end
end

-- Before the states are replaced: what is damaged is put aside first.
for i = 14, #ARGV, 2 do
  local full = redis.call('HLEN', quarantine) >= tonumber(ARGV[13])
  if not full or redis.call('HEXISTS', quarantine, ARGV[i]) == 1 then
    redis.call('HSET', quarantine, ARGV[i], ARGV[i + 1])
  end
end

local entries, said = {}, {}
for i = 1, last_value - last_state do
  entries[i] = next_value()
  if i <= sent then said[i] = entries[i] end
end
for i = 2, #opened, 2 do opened[i] = entries[opened[i]] end

-- Commands that need memory first: a full server refuses the first of them, and after it none.
for from = 1, #settings, CHUNK do
  redis.call('MSET', unpack(settings, from, math.min(from + CHUNK - 1, #settings)))
end
for _, one in ipairs(heads) do redis.call('SETRANGE', one[1], 0, one[2]) end
for head, users in pairs(joined) do
  local instant = instant_of(head)
  each_chunk(users, 'SADD', prefix .. 'due:' .. instant)
  redis.call('ZADD', due, instant, instant)
end
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
if next(rebuilt) then
  for _, instant in ipairs(redis.call('ZRANGE', due, 0, -1)) do
    local head = struct.pack('>I6', tonumber(instant) + 2 ^ 47)
    for user, now in pairs(rebuilt) do
      if now ~= head then put(left, head, user) end
    end
  end
end
for head, users in pairs(left) do
  local instant = instant_of(head)
  local key = prefix .. 'due:' .. instant
  each_chunk(users, 'SREM', key)
  if redis.call('EXISTS', key) == 0 then redis.call('ZREM', due, instant) end
end
if #moved > 0 then
  each_chunk(moved, 'ZREM', former .. 'due')
  for _, user in ipairs(moved) do redis.call('UNLINK', former .. 'c:' .. user) end
end
return 'APPLIED'
