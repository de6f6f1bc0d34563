// Runs an Argo CD health check: takes the file with the Lua script as its argument and an object as JSON on standard
// input, and prints `status` and `message` of the table that the script returns, on a line each.
//
// The script has what it can count on in Argo CD: the global `obj`, and the libraries package, base and table. (Argo CD
// also lets it ask for the time.) There is no string library. It has one second.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	lua "github.com/yuin/gopher-lua"
)

func main() {
	if len(os.Args) != 2 {
		fail(fmt.Errorf("usage: %s SCRIPT < OBJECT", os.Args[0]))
	}
	var object any
	if err := json.NewDecoder(os.Stdin).Decode(&object); err != nil {
		fail(err)
	}
	answer, err := run(os.Args[1], object)
	if err != nil {
		fail(err)
	}
	fmt.Printf("%s\n%s\n", lua.LVAsString(answer.RawGetString("status")), lua.LVAsString(answer.RawGetString("message")))
}

func run(script string, object any) (*lua.LTable, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	state.SetContext(ctx)
	for _, library := range []struct {
		name string
		open lua.LGFunction
	}{
		{lua.LoadLibName, lua.OpenPackage},
		{lua.BaseLibName, lua.OpenBase},
		{lua.TabLibName, lua.OpenTable},
	} {
		call := lua.P{Fn: state.NewFunction(library.open), Protect: true}
		if err := state.CallByParam(call, lua.LString(library.name)); err != nil {
			return nil, err
		}
	}
	state.SetGlobal("obj", value(state, object))
	if err := state.DoFile(script); err != nil {
		return nil, err
	}
	answer, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return nil, fmt.Errorf("the script returns a %s, not a table", state.Get(-1).Type())
	}
	return answer, nil
}

// value is a JSON value in Lua. null is nil.
func value(state *lua.LState, from any) lua.LValue {
	switch from := from.(type) {
	case bool:
		return lua.LBool(from)
	case float64:
		return lua.LNumber(from)
	case string:
		return lua.LString(from)
	case []any:
		table := state.CreateTable(len(from), 0)
		for _, item := range from {
			table.Append(value(state, item))
		}
		return table
	case map[string]any:
		table := state.CreateTable(0, len(from))
		for name, item := range from {
			table.RawSetString(name, value(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, "health:", err)
	os.Exit(1)
}
