-- Finds out when customers are due, whatever their records say: one may be lost or damaged.
--
-- KEYS  due
-- ARGV  users, 5,000 at most
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
