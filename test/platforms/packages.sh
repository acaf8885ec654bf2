# Debian packages for the scripts that source this.

# Installs those that are not there yet.
packages() {
  local name missing=()
  for name in "$@"; do
    [[ $(dpkg-query --show --showformat='${db:Status-Status}' "$name" 2>/dev/null) = installed ]] || missing+=("$name")
  done
  ((${#missing[@]} > 0)) || return 0
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
}
