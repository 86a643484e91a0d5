#!/bin/sh
# Install what some tests need besides Python packages, on Debian, as root. Without it they are skipped, or fail in CI.
set -eu
export DEBIAN_FRONTEND=noninteractive
needed=""
command -v chromedriver >/dev/null || needed="$needed chromium chromium-driver" # tests/test_docs_tracking.py
command -v pg_virtualenv >/dev/null || needed="$needed postgresql"              # tests/test_tracking_live.py and the same
[ -z "$needed" ] && exit 0
apt-get update -qq
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $needed >/dev/null
