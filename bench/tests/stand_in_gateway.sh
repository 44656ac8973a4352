#!/bin/sh
# Takes the flags of a gateway, notes them in the file STAND_IN_FLAGS, and answers requests itself by STAND_IN_PROGRAM.
# Used by recipes.rs.
echo "$@" >> "$STAND_IN_FLAGS"
exec "$STAND_IN_PROGRAM" backend --duration 120
