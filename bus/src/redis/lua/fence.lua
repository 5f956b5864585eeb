-- Shuts out who had a lease before.
-- args: 1: its name; 2: the number of the one that has it now
-- Answers the latest number that was seen of it.
local field = 'f:' .. args[1]
local seen, number = tonumber(redis.call('HGET', META, field) or 0), tonumber(args[2])
if number <= seen then return seen end
redis.call('HSET', META, field, args[2])
return number
