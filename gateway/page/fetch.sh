#!/bin/bash
# Fetches what draws the browsable page of the API: swagger-ui, an npm package, pinned by its digest.
#
#   gateway/page/fetch.sh FOLDER     puts swagger-ui.css and swagger-ui-bundle.js there
set -euo pipefail

folder=$1
version=5.35.0
digest=1b8e891893404ea4c3558b6a87e2a3e494e7eedba41168c2ece5800a391a6ea6
package=swagger-ui-dist-$version.tgz

mkdir -p "$folder"
cd "$folder"
if ! sha256sum --status --check - <<<"$digest  $package" 2>/dev/null; then
  rm -f "$package"
  if ! npm pack --silent "swagger-ui-dist@$version" >npm.log 2>&1; then
    cat npm.log >&2
    echo "the page of the API could not be fetched with npm; build without it: cmake -DCOPPICE_API_PAGE=OFF" >&2
    exit 1
  fi
  sha256sum --quiet --check - <<<"$digest  $package"
fi
tar -xzf "$package" --strip-components=1 package/swagger-ui.css package/swagger-ui-bundle.js
touch swagger-ui.css swagger-ui-bundle.js
