--- `tcmu-lua mod-builder`: the generator of fabric modules has a command line
--- of its own.

return {
  name = "mod-builder",
  about = "Generate the skeleton of a target fabric kernel module.",
  verbatim = true,

  declare = function(command)
    command:usage "Usage: tcmu-lua mod-builder <argument> ..."
    command:epilog("'tcmu-lua mod-builder --help' tells which arguments it "
                   .. "takes.")
  end,

  run = function(argv) return require("tcm_mod_builder").main(argv) end,
}
