package config

import (
	"os"
	"path/filepath"
	"strings"
)

// AdminAddress finds the admin address of a file that may be broken: the
// default when it cannot be read. Among the defaults a socket that is there
// comes before one that is not, since the process that is asked for may be
// another user's.
func AdminAddress(file string) string {
	data, err := readFile(file)
	if err == nil {
		if admin, err := adminAddress(filepath.Dir(file), adminText(string(data))); err == nil {
			return admin
		}
	}
	own := defaultAdmin()
	if !exists(strings.TrimPrefix(own, "unix:")) && exists(adminSocket) {
		return "unix:" + adminSocket
	}
	return own
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// adminText is the value of listen in [admin], by the library if it
// understands the text, else line by line.
func adminText(text string) string {
	var tree map[string]any
	if _, err := decode(text, &tree); err == nil {
		return listenOf(tree)
	}
	header, found := "", ""
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			header = line
		}
		if !strings.Contains(line, "listen") {
			continue
		}
		tree = nil
		if _, err := decode(header+"\n"+line, &tree); err == nil {
			if admin := listenOf(tree); admin != "" {
				found = admin
			}
		}
	}
	return found
}

func listenOf(tree map[string]any) string {
	admin, _ := tree["admin"].(map[string]any)
	listen, _ := admin["listen"].(string)
	return listen
}
