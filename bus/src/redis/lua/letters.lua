-- A group's dead letters of a partition, in the order of their positions.
-- keys: 1: the letters, a hash  2: the positions that are dead and not with their group again
-- args: 1: after this position  2: at most so many  3: '1': with their texts
-- Answers positions and texts in turn, or positions alone.
local after, positions = tonumber(args[1]), {}
for _, position in ipairs(redis.call('ZRANGE', keys[2], 0, -1)) do
    position = tonumber(position)
    if position > after then positions[#positions + 1] = position end
end
table.sort(positions)
local answer = {}
for i = 1, math.min(#positions, tonumber(args[2])) do
    local position = int(positions[i])
    answer[#answer + 1] = position
    if args[3] == '1' then answer[#answer + 1] = redis.call('HGET', keys[1], position) or '' end
end
return answer
