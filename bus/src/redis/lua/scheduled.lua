-- What waits for its time, by when it is due, then by arrival.
-- args: 1: due, 2: arrival, after which; 3: at most so many, 4: until so many bytes
-- Answers when each is due, its arrival and itself, in turn.
local from = redis.call('ZCOUNT', WAITING, '-inf', '(' .. args[1])
local to = redis.call('ZCOUNT', WAITING, '-inf', args[1])
-- Those that are due at once are in the order of their arrival.
while from < to do
    local middle = math.floor((from + to) / 2)
    local arrival = redis.call('ZRANGE', WAITING, middle, middle)[1]:sub(1, 16)
    if tonumber(arrival) <= tonumber(args[2]) then from = middle + 1 else to = middle end
end
local answer, bytes = {}, 0
for _, found in ipairs(redis.call('ZRANGE', WAITING, from, from + tonumber(args[3]) - 1)) do
    if bytes >= tonumber(args[4]) then break end
    local stored = redis.call('HGET', EVENTS, found:sub(17))
    local _, key, due, arrival = (stored or ''):find('^(%d+):(%d+):')
    -- Otherwise it is the turn of one that somebody deleted.
    if arrival and tonumber(arrival) == tonumber(found:sub(1, 16)) then
        answer[#answer + 1] = due
        answer[#answer + 1] = arrival
        answer[#answer + 1] = stored:sub(key + 17)
        bytes = bytes + #stored
    end
end
return answer
