-- Counts answers that are not exactly what was asked for, which wrk does not do by itself, and says everything in one line of
-- JSON. The argument behind `--` says how it asks: get, post (1 KiB, which comes back) or pipeline (8 requests at a time).

local threads = {}

function setup(thread)
  table.insert(threads, thread)
end

function init(args)
  answers, wrong = 0, 0
  expected = "/hello"
  if args[1] == "post" then
    expected = string.rep("0123456789abcdef", 64)
    asked = wrk.format("POST", "/echo", nil, expected)
  else
    asked = wrk.format("GET", expected)
  end
  if args[1] == "pipeline" then
    asked = string.rep(asked, 8)
  end
end

function request()
  return asked
end

function response(status, headers, body)
  answers = answers + 1
  if status ~= 200 or body ~= expected then
    wrong = wrong + 1
  end
end

function done(summary)
  local answers, wrong, errors = 0, 0, 0
  for _, thread in ipairs(threads) do
    answers, wrong = answers + thread:get("answers"), wrong + thread:get("wrong")
  end
  for _, count in pairs(summary.errors) do
    errors = errors + count
  end
  print(string.format('{"answers":%d,"wrong":%d,"errors":%d}', answers, wrong, errors))
end
