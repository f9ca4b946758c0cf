local lexer = require "tcm_mod_builder.lexer"

local function texts(source)
  local list = {}
  for i, token in ipairs(lexer.tokens(source, "x.h")) do list[i] = token.text end
  return list
end

describe("the lexer of the module generator", function()
  it("splits a declaration into words and punctuation", function()
    assert.same({ "int", "(", "*", "f", ")", "(", "u32", ",", "...", ")", ";" },
      texts "int (*f)(u32, ...);")
    assert.same({ "a", "->", "b", "&&", "!", "c", "<<", "0x1Ful" },
      texts "a->b && !c << 0x1Ful")
  end)

  it("drops comments, and what looks like code in them", function()
    assert.same({ "int", "a", ";", "b" },
      texts "int /* (*no)(void); // */ a; // int (*no)\nb /**/")
  end)

  it("keeps comment marks in literals", function()
    assert.same({ '"/* no \\" */"', "'\"'", "a" }, texts [["/* no \" */" '"' a]])
  end)

  it("keeps a preprocessor line as one token, joined and without comments",
    function()
      local tokens = lexer.tokens("#  if A && \\\n  B /* why\nnot */\nint a;",
        "x.h")
      assert.equal("directive", tokens[1].kind)
      assert.equal("# if A && B", tokens[1].text)
      assert.equal("int", tokens[2].text)
    end)

  it("takes # for a directive only at the beginning of a line", function()
    assert.same({ "a", "##", "b" }, texts "a ## b")
    assert.same({ "a", "#", "b" }, texts "a # b")
  end)

  it("knows on which line a token is", function()
    local tokens = lexer.tokens("a\n/* 2\n3 */ b\n#define X \\\n  1\nc", "x.h")
    local lines = {}
    for i, token in ipairs(tokens) do lines[i] = token.line end
    assert.same({ 1, 3, 4, 6 }, lines)
  end)

  it("names the file and line of a comment that does not end", function()
    local _, why = pcall(lexer.tokens, "a\n/* b", "x.h")
    assert.equal("x.h:2: a comment that does not end; is this file whole?", why)
    _, why = pcall(lexer.tokens, 'a "b\n"', "x.h")
    assert.equal("x.h:1: a literal that does not end; is this file whole?", why)
  end)
end)
