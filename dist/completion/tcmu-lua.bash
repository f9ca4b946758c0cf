# bash completion for tcmu-lua

_tcmu_lua_devices() {
  local path
  for path in /sys/kernel/config/target/core/user_*/*/enable; do
    [[ -e $path ]] || continue
    path=${path%/enable}
    printf '%s\n' "${path##*/}"
  done
}

# The installed handlers, and Lua files from here on.
_tcmu_lua_handlers() {
  mapfile -t COMPREPLY < <(
    compgen -W "$("${COMP_WORDS[0]}" list --names 2>/dev/null)" -- "$1"
    compgen -f -X '!*.lua' -- "$1"
    compgen -d -S / -- "$1"
  )
}

_tcmu_lua_words() {
  mapfile -t COMPREPLY < <(compgen -W "$1" -- "$2")
}

_tcmu_lua() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD - 1]}
  local verb=${COMP_WORDS[1]} options
  COMPREPLY=()

  if ((COMP_CWORD == 1)); then
    _tcmu_lua_words "serve try check list create resize delete explain doctor
      mod-builder help --help --version" "$word"
    return
  fi

  case $verb:$before in
    try:--)
      mapfile -t COMPREPLY < <(compgen -f -- "$word")
      return ;;
    *:--handler)
      _tcmu_lua_handlers "$word"
      return ;;
    *:--block-size)
      _tcmu_lua_words "512 1024 2048 4096" "$word"
      return ;;
    *:--poll)
      _tcmu_lua_words "auto on off" "$word"
      return ;;
    *:--shards | *:--size | *:--memory | *:--budget | *:--option | \
    *:--serial | *:--product | *:--poll-limit)
      return ;;
  esac

  case $verb in
    serve) options="--shards --handler --memory --budget --poll --poll-limit
      --sole --third-party-copy --no-fast-path --verbose" ;;
    try) options="--size --block-size --shards --" ;;
    check) options="--size --block-size" ;;
    list) options="--names" ;;
    create) options="--handler --size --option --disk --block-size
      --no-write-cache --serial --product" ;;
    resize | delete) options="--force" ;;
    mod-builder) options="--modulename --protoident --output --kernel --in-tree
      --fabric-name --yes --no" ;;
    *) options= ;;
  esac

  if [[ $word == -* ]]; then
    _tcmu_lua_words "$options --help" "$word"
    return
  fi
  case $verb in
    try | check) _tcmu_lua_handlers "$word" ;;
    resize | delete) _tcmu_lua_words "$(_tcmu_lua_devices)" "$word" ;;
    help) _tcmu_lua_words "serve try check list create resize delete explain
      doctor mod-builder" "$word" ;;
  esac
}

complete -o filenames -o nosort -F _tcmu_lua tcmu-lua
