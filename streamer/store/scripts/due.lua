-- Reads who is due, of one instant in any order.
--
-- KEYS  due
-- ARGV  1 until when, 2 how many at most, 3 prefix of where the version before had its keys ('' = nothing is left)
-- Returns {instant, user, instant, user …}.
local due = KEYS[1]
local prefix, limit = string.sub(due, 1, -4), tonumber(ARGV[2])
local found, count = {}, 0

local function add(instant, user)
  found[2 * count + 1], found[2 * count + 2] = instant, user
  count = count + 1
end

if ARGV[3] ~= '' then
  local waiting = redis.call('ZRANGEBYSCORE', ARGV[3] .. 'due', '-inf', ARGV[1], 'WITHSCORES', 'LIMIT', 0, limit)
  for i = 1, #waiting, 2 do add(waiting[i + 1], waiting[i]) end
end
local moved = count

-- With as many of each, whatever the former ones turn out to be, the first of all are among them.
for _, instant in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', ARGV[1])) do
  local key = prefix .. 'due:' .. instant
  local head = struct.pack('>I6', tonumber(instant) + 2 ^ 47)
  for _, user in ipairs(redis.call('SRANDMEMBER', key, limit - count + moved)) do
    local record = prefix .. 'c:' .. user
    -- Never otherwise but after damage: a record that is lost its owner hears of, and one with another's beginning is
    -- put right.
    local says = redis.pcall('GETRANGE', record, 0, 5)
    if type(says) == 'string' and #says == 6 and says ~= head then redis.call('SETRANGE', record, 0, head) end
    add(instant, user)
  end
  if count - moved >= limit then break end
end
return found
