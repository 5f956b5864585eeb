-- A group's dead letters of a partition, in the order of their positions.
-- keys: 1: the letters, a hash  2: the positions that are dead and not with their group again, by position
-- args: 1: after this position  2: at most so many  3: '1': with their texts
-- Answers positions and texts in turn, or positions alone.
local positions = redis.call('ZRANGEBYSCORE', keys[2], '(' .. args[1], '+inf', 'LIMIT', 0, tonumber(args[2]))
if args[3] ~= '1' then return positions end
local answer = {}
for i, position in ipairs(positions) do
    answer[2 * i - 1], answer[2 * i] = position, redis.call('HGET', keys[1], position) or ''
end
return answer
