#!/usr/bin/env bash
# Installs Chromium and its driver, which the demo server's tests drive, from Debian's packages.
# Nothing is done where both are there.
set -eu

if command -v chromium >/dev/null && command -v chromedriver >/dev/null; then
    exit 0
fi
if ! command -v apt-get >/dev/null; then
    echo 'error: there is no apt-get here; install Chromium and ChromeDriver by the means of this' \
        'system, so that chromium and chromedriver are on the PATH' >&2
    exit 1
fi
if [[ $(id -u) != 0 ]]; then
    echo 'error: packages are installed by root alone; run: sudo make setup-browser' >&2
    exit 1
fi
echo 'set-up: installing Chromium and ChromeDriver'
log=$(mktemp)
trap 'rm -f "$log"' EXIT
if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes \
        --no-install-recommends chromium chromium-driver; } >"$log" 2>&1 </dev/null; then
    tail -n 12 "$log" >&2
    echo 'error: Chromium could not be installed; the last lines of apt-get are above' >&2
    exit 1
fi
