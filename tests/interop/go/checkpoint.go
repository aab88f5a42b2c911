package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sort"

	ws "weightstream/v1"
)

// tensor is one tensor of a checkpoint, with its bytes.
type tensor struct {
	spec *ws.TensorSpec
	data []byte
}

type headerEntry struct {
	DType   string   `json:"dtype"`
	Shape   []uint64 `json:"shape"`
	Offsets []uint64 `json:"data_offsets"`
}

// readCheckpoint reads a Hugging Face folder: the index, and the shards that it names.
func readCheckpoint(folder string) (map[string]tensor, error) {
	text, err := os.ReadFile(filepath.Join(folder, "model.safetensors.index.json"))
	if err != nil {
		return nil, err
	}
	var index struct {
		WeightMap map[string]string `json:"weight_map"`
	}
	if err := json.Unmarshal(text, &index); err != nil {
		return nil, err
	}
	shards := map[string]bool{}
	for _, shard := range index.WeightMap {
		shards[shard] = true
	}
	tensors := map[string]tensor{}
	for shard := range shards {
		if err := readShard(filepath.Join(folder, shard), tensors); err != nil {
			return nil, fmt.Errorf("%s: %w", shard, err)
		}
	}
	return tensors, nil
}

func readShard(path string, tensors map[string]tensor) error {
	file, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dataStart := 8 + binary.LittleEndian.Uint64(file)
	header := map[string]json.RawMessage{}
	if err := json.Unmarshal(file[8:dataStart], &header); err != nil {
		return err
	}
	delete(header, "__metadata__")
	for name, text := range header {
		var entry headerEntry
		if err := json.Unmarshal(text, &entry); err != nil {
			return err
		}
		tensors[name] = tensor{
			spec: &ws.TensorSpec{Name: name, Dtype: entry.DType, Shape: entry.Shape},
			data: file[dataStart+entry.Offsets[0] : dataStart+entry.Offsets[1]],
		}
	}
	return nil
}

// specsOf lists the manifest in the same order at each start, which the server does not ask for but a reader may.
func specsOf(tensors map[string]tensor) []*ws.TensorSpec {
	specs := make([]*ws.TensorSpec, 0, len(tensors))
	for _, each := range tensors {
		specs = append(specs, each.spec)
	}
	sort.Slice(specs, func(a, b int) bool { return specs[a].Name < specs[b].Name })
	return specs
}
