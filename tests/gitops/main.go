// Command judge says what Argo CD and Flux make of objects, by the rules of examples/gitops: it reads
// {"argo": LUA, "flux": {"current": CEL, "failed": CEL}, "objects": [OBJECT...]} and writes
// [{"argo": {"status", "message"}, "flux": STATUS}...].
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"

	"github.com/fluxcd/pkg/apis/kustomize"
	"github.com/fluxcd/pkg/runtime/cel"
	lua "github.com/yuin/gopher-lua"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

type question struct {
	Argo    string                           `json:"argo"`
	Flux    kustomize.HealthCheckExpressions `json:"flux"`
	Objects []json.RawMessage                `json:"objects"`
}

type verdict struct {
	Argo health `json:"argo"`
	Flux string `json:"flux"`
}

type health struct {
	Status  string `json:"status"`
	Message string `json:"message"`
}

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "judge:", err)
		os.Exit(1)
	}
}

func run() error {
	var asked question
	if err := json.NewDecoder(os.Stdin).Decode(&asked); err != nil {
		return err
	}
	flux, err := cel.NewStatusEvaluator(&asked.Flux)
	if err != nil {
		return err
	}
	verdicts := []verdict{}
	for _, text := range asked.Objects {
		// As both read objects: whole numbers are integers.
		object := unstructured.Unstructured{}
		if err := object.UnmarshalJSON(text); err != nil {
			return err
		}
		argo, err := judgeByLua(asked.Argo, object.Object)
		if err != nil {
			return err
		}
		said := "Unknown"
		// Flux takes what cannot be evaluated for unknown, and looks again.
		if result, err := flux.Evaluate(context.Background(), &object); err == nil {
			said = result.Status.String()
		}
		verdicts = append(verdicts, verdict{Argo: argo, Flux: said})
	}
	return json.NewEncoder(os.Stdout).Encode(verdicts)
}

// libraries are those that Argo CD gives to scripts; the first has to be opened first, says gopher-lua.
var libraries = []struct {
	name string
	open lua.LGFunction
}{{lua.LoadLibName, lua.OpenPackage}, {lua.BaseLibName, lua.OpenBase}, {lua.TabLibName, lua.OpenTable}, {lua.StringLibName, lua.OpenString}}

// judgeByLua runs a health script as Argo CD does (util/lua/lua.go): the object is the global obj.
func judgeByLua(script string, object map[string]any) (health, error) {
	state := lua.NewState(lua.Options{SkipOpenLibs: true})
	defer state.Close()
	for _, library := range libraries {
		if err := state.CallByParam(lua.P{Fn: state.NewFunction(library.open), NRet: 0, Protect: true}, lua.LString(library.name)); err != nil {
			return health{}, err
		}
	}
	state.SetGlobal("obj", toLua(state, object))
	if err := state.DoString(script); err != nil {
		return health{}, err
	}
	said, ok := state.Get(-1).(*lua.LTable)
	if !ok {
		return health{}, fmt.Errorf("the script gives a %s and no table", state.Get(-1).Type())
	}
	word := func(field string) string { return lua.LVAsString(said.RawGetString(field)) }
	return health{Status: word("status"), Message: word("message")}, nil
}

func toLua(state *lua.LState, value any) lua.LValue {
	switch value := value.(type) {
	case bool:
		return lua.LBool(value)
	case int64:
		return lua.LNumber(value)
	case float64:
		return lua.LNumber(value)
	case string:
		return lua.LString(value)
	case []any:
		table := state.NewTable()
		for _, item := range value {
			table.Append(toLua(state, item))
		}
		return table
	case map[string]any:
		table := state.NewTable()
		for key, item := range value {
			table.RawSetString(key, toLua(state, item))
		}
		return table
	default:
		return lua.LNil
	}
}
