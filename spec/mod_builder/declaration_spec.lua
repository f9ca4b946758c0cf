local declaration = require "tcm_mod_builder.declaration"
local lexer = require "tcm_mod_builder.lexer"

local function members(body)
  local source = "struct other { int x; };\nstruct ops {\n" .. body .. "\n};\n"
    .. "struct after { int y; };"
  return declaration.members(lexer.tokens(source, "x.h"), "ops", "x.h")
end

--- The declarations of a body, written out again.
local function written(body)
  local list = {}
  for i, member in ipairs(members(body)) do
    list[i] = declaration.declare(member.type, member.name)
      .. (member.bits and ":" .. member.bits or "")
  end
  return list
end

describe("the declaration parser of the module generator", function()
  it("stops at the end of the structure", function()
    assert.same({ "int a" }, written "int a;")
  end)

  it("does not mind where the structure is not defined", function()
    local tokens = lexer.tokens("struct ops; struct ops *p;", "x.h")
    assert.is_nil(declaration.members(tokens, "ops", "x.h"))
  end)

  for _, text in ipairs {
    "int a", "unsigned long long a", "const char *name",
    "const char *const *names", "char *const p", "struct module *module",
    "struct configfs_attribute **attrs", "enum kind k", "int a[4][COUNT + 1]",
    "int *a[4]", "int (*a)[4]", "void (*f)(void)",
    "char *(*f)(struct se_portal_group *)",
    "u32 (*f)(struct se_session *, unsigned char *, u32)",
    "int (*f)(struct se_portal_group *se_tpg, bool enable)",
    "int (*f)(const char *fmt, ...)", "void (*f[3])(int)",
    "int (**f)(int)", "int (*(*f)(int))(char)", "int (*f)(int (*)(void *), int[4])",
    "void (*f)(int (int))", "struct se_lun __rcu *lun",
    "ssize_t (*f)(char __user *buf)", "__be16 port", "u8 (*f)(__le32 *)",
    "void *(*const f)(void)",
  } do
    it("reads and writes " .. text, function()
      assert.same({ text }, written(text .. ";"))
    end)
  end

  it("takes several declarators to one type", function()
    assert.same({ "int a", "int *b", "int c[2]", "int (*d)(void)" },
      written "int a, *b, c[2], (*d)(void);")
  end)

  it("reads bit fields, and passes over those without a name", function()
    assert.same({ "unsigned int a:1", "unsigned int b:2" },
      written "unsigned int a:1, :3, b:2;")
  end)

  it("does not depend on lines", function()
    assert.same({ "struct se_wwn *(*f)(struct a *, const char *)" },
      written "struct\nse_wwn\n*(\n*f)(struct a\n*, /* (*g) */ const\nchar *\n);")
  end)

  it("passes over attributes and annotations", function()
    assert.same({ "int a", "int *b" }, written
      "int a __attribute__((aligned(8))); int *b ____cacheline_aligned;")
  end)

  it("passes over macros that stand for members", function()
    assert.same({ "int a", "int b" },
      written "int a; RESERVE(1) KABI_RESERVE(2, u64 (*x)(int)); int b;")
  end)

  it("finds the members of anonymous structures, but not of unions", function()
    assert.same({ "int a", "void (*f)(void)", "int b" }, written
      "struct { int a; void (*f)(void); }; union { int c; int d; }; int b;")
    assert.same({ "struct in it" }, written "struct in { int a; } it;")
  end)

  it("knows the condition that a member depends on", function()
    local guards = {}
    for _, member in ipairs(members [[
      int a;
#ifdef CONFIG_X
      int b;
#else
      int c;
# if X > 1
      int d;
# elif defined(Y) /* why */
      int e;
# endif
#endif
#ifndef Z
      int f;
#endif
      int g;
    ]]) do
      guards[member.name] = member.guard or false
    end
    assert.same({
      a = false, b = "defined(CONFIG_X)", c = "!defined(CONFIG_X)",
      d = "!defined(CONFIG_X) && (X > 1)",
      e = "!defined(CONFIG_X) && !(X > 1) && (defined(Y))",
      f = "!defined(Z)", g = false,
    }, guards)
  end)

  it("tells pointers to functions from other members", function()
    local list = members "int (*f)(int); int *p; int (**pp)(int); int (*a[2])(int);"
    assert.equal("function", declaration.callback(list[1].type).kind)
    for i = 2, 4 do assert.is_nil(declaration.callback(list[i].type)) end
  end)

  it("names the file and line of what it cannot read", function()
    local _, why = pcall(members, "int a;\nint (*f)(int;")
    assert.equal('x.h:4: cannot read this declaration: expected ")", found ;', why)
    _, why = pcall(members, "int a")
    assert.equal('x.h:4: cannot read this declaration: expected ";", found }', why)
  end)
end)
