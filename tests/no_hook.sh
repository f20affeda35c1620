#!/bin/sh
# In the place of the tests of a hook whose library was not found (or was not wanted): says why, and ends as a skipped test.
case "$1" in
  prometheus) library=prometheus-cpp with=tools/setup option=COORD_WITH_PROMETHEUS ;;
  *) library=opentelemetry-cpp with="tools/setup --with-opentelemetry" option=COORD_WITH_OPENTELEMETRY ;;
esac
echo "skipped: the build was configured without coord::cache_$1: $library was not found, or $option is OFF."
echo "$with installs it where it can; configure again then, with -D$option=ON to be told what is missing."
exit 77
