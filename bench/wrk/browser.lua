-- What a browser sends, with a cookie that no two requests have in common.
-- The request is cut in two around the number, so that the client has one concatenation to do for each.

local before, after
local n = 0

function init(args)
   local host = wrk.host .. ":" .. wrk.port
   before = table.concat({
      "GET " .. wrk.path .. " HTTP/1.1",
      "Host: " .. host,
      "Connection: keep-alive",
      'sec-ch-ua: "Chromium";v="130", "Google Chrome";v="130", "Not?A_Brand";v="99"',
      "sec-ch-ua-mobile: ?0",
      'sec-ch-ua-platform: "Linux"',
      "Upgrade-Insecure-Requests: 1",
      "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/130.0.0.0 Safari/537.36",
      "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8",
      "Sec-Fetch-Site: same-origin",
      "Referer: http://" .. host .. "/",
      "Accept-Encoding: gzip, deflate, br, zstd",
      "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
      "Cookie: csrftoken=Zk3vV9cQ1rWb7yHs5nTf2dLx8uMj4pEa; sessionid=8f14e45fceea167a5a36dedd4bea2543; seen=",
   }, "\r\n")
   after = "\r\n\r\n"
end

function request()
   n = n + 1
   return before .. n .. after
end
