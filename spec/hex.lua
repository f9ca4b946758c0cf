--- Bytes as specs compare them: in hexadecimal digits.
return function(bytes)
  return (bytes:gsub(".", function(c) return ("%02x"):format(c:byte()) end))
end
