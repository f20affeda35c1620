#!/bin/sh
# In the place of the tests against Valkey where no valkey-server was found: says why, and ends as a skipped test.
echo "skipped: no valkey-server in PATH when the build was configured. tools/setup --with-valkey installs one where it can;"
echo "configure again then. What apt says of it:"
if command -v apt-cache >/dev/null; then
  said=$(apt-cache policy valkey-server)
  echo "${said:-it knows no such package; on Debian 12 it is among the backports, which are not among its sources}"
else
  echo "there is no apt here"
fi
exit 77
