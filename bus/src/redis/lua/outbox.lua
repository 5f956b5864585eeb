-- The outboxes that publish into a partition: of each its last number, and the latest runs of numbers at consecutive
-- positions. The meta has them as `p:<outbox>`: `<last>|<first number>:<position>:<how many>,…`.
local RUNS = 16
local outboxes = {}

local function outbox(name)
    if not outboxes[name] then
        local found = { runs = {} }
        local stored = redis.call('HGET', META, 'p:' .. name)
        if stored then
            local last, runs = stored:match('^(%d+)|(.*)$')
            found.last = tonumber(last)
            for no, position, count in runs:gmatch('(%d+):(%d+):(%d+)') do
                found.runs[#found.runs + 1] = { tonumber(no), tonumber(position), tonumber(count) }
            end
        end
        outboxes[name] = found
    end
    return outboxes[name]
end

-- position: nil for what waits.
local function numbered(from, no, position)
    from.last, from.changed = no, true
    if not position then return end
    local run = from.runs[#from.runs]
    if run and run[1] + run[3] == no and run[2] + run[3] == position then
        run[3] = run[3] + 1
    else
        from.runs[#from.runs + 1] = { no, position, 1 }
        if #from.runs > RUNS then table.remove(from.runs, 1) end
    end
end

local function position_of(from, no)
    for i = #from.runs, 1, -1 do
        local run = from.runs[i]
        if no >= run[1] and no < run[1] + run[3] then return run[2] + no - run[1] end
    end
end

-- Adds what changed of them to the fields of the meta that change.
local function tell_numbers(changed)
    for name, from in pairs(outboxes) do
        if from.changed then
            local runs = {}
            for i, run in ipairs(from.runs) do runs[i] = int(run[1]) .. ':' .. int(run[2]) .. ':' .. int(run[3]) end
            changed[#changed + 1] = 'p:' .. name
            changed[#changed + 1] = int(from.last) .. '|' .. table.concat(runs, ',')
        end
    end
end
