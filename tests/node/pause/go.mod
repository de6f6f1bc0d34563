module cmk-operator/tests/node/pause

go 1.26.0
