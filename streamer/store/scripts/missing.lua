-- Finds out who is due although no record says so: one was lost or damaged.
--
-- KEYS  due
-- ARGV  users whose record is gone, cut short or of another type, 5,000 at most
-- Returns {number of the user, instant, …}.
local prefix, found = string.sub(KEYS[1], 1, -4), {}
for _, instant in ipairs(redis.call('ZRANGE', KEYS[1], 0, -1)) do
  for i, is_due in ipairs(redis.call('SMISMEMBER', prefix .. 'due:' .. instant, unpack(ARGV))) do
    if is_due == 1 then
      found[#found + 1] = i
      found[#found + 1] = instant
    end
  end
end
return found
