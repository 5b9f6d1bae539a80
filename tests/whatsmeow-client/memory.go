package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"

	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/util/keys"
	waLog "go.mau.fi/whatsmeow/util/log"
)

// memory is a store that lives as long as the program. What it does not implement is forgotten by the embedded store.
type memory struct {
	store.NoopStore
	mutex        sync.Mutex
	identities   map[string][32]byte
	sessions     map[string][]byte
	preKeys      map[uint32]*keys.PreKey
	uploaded     uint32
	lastPreKey   uint32
	appStateKeys map[string]store.AppStateSyncKey
	latestKey    []byte
	versions     map[string]version
	macs         map[string][]byte
	lids         map[string]types.JID
}

type version struct {
	number uint64
	hash   [128]byte
}

// newDevice has fresh keys and is not linked.
func newDevice(log waLog.Logger) *store.Device {
	memory := &memory{
		identities: map[string][32]byte{}, sessions: map[string][]byte{}, preKeys: map[uint32]*keys.PreKey{},
		appStateKeys: map[string]store.AppStateSyncKey{}, versions: map[string]version{}, macs: map[string][]byte{},
		lids: map[string]types.JID{},
	}
	secret, identity := make([]byte, 36), keys.NewKeyPair()
	_, _ = rand.Read(secret) // never fails
	return &store.Device{
		Log: log, NoiseKey: keys.NewKeyPair(), IdentityKey: identity, SignedPreKey: identity.CreateSignedPreKey(1),
		RegistrationID: binary.BigEndian.Uint32(secret[32:]) & 0x3fff, AdvSecretKey: secret[:32], Initialized: true,
		Identities: memory, Sessions: memory, PreKeys: memory, SenderKeys: memory, AppStateKeys: memory,
		AppState: memory, Contacts: memory, ChatSettings: memory, MsgSecrets: memory, PrivacyTokens: memory,
		EventBuffer: memory, LIDs: memory, Container: memory,
	}
}

func (m *memory) lock() func() {
	m.mutex.Lock()
	return m.mutex.Unlock
}

func (m *memory) PutIdentity(_ context.Context, address string, key [32]byte) error {
	defer m.lock()()
	m.identities[address] = key
	return nil
}

func (m *memory) DeleteIdentity(_ context.Context, address string) error {
	defer m.lock()()
	delete(m.identities, address)
	return nil
}

func (m *memory) DeleteAllIdentities(_ context.Context, phone string) error {
	defer m.lock()()
	maps.DeleteFunc(m.identities, func(address string, _ [32]byte) bool { return strings.HasPrefix(address, phone+":") })
	return nil
}

// IsTrustedIdentity trusts an address on its first use.
func (m *memory) IsTrustedIdentity(_ context.Context, address string, key [32]byte) (bool, error) {
	defer m.lock()()
	known, found := m.identities[address]
	return !found || known == key, nil
}

func (m *memory) GetSession(_ context.Context, address string) ([]byte, error) {
	defer m.lock()()
	return m.sessions[address], nil
}

func (m *memory) HasSession(_ context.Context, address string) (bool, error) {
	defer m.lock()()
	return m.sessions[address] != nil, nil
}

func (m *memory) GetManySessions(_ context.Context, addresses []string) (map[string][]byte, error) {
	defer m.lock()()
	found := map[string][]byte{}
	for _, address := range addresses {
		found[address] = m.sessions[address]
	}
	return found, nil
}

func (m *memory) PutSession(_ context.Context, address string, session []byte) error {
	defer m.lock()()
	m.sessions[address] = session
	return nil
}

func (m *memory) PutManySessions(_ context.Context, sessions map[string][]byte) error {
	defer m.lock()()
	maps.Copy(m.sessions, sessions)
	return nil
}

func (m *memory) DeleteSession(_ context.Context, address string) error {
	defer m.lock()()
	delete(m.sessions, address)
	return nil
}

func (m *memory) DeleteAllSessions(_ context.Context, phone string) error {
	defer m.lock()()
	maps.DeleteFunc(m.sessions, func(address string, _ []byte) bool { return strings.HasPrefix(address, phone+":") })
	return nil
}

// MigratePNToLID moves what is known of a number's devices to the account's hidden address.
func (m *memory) MigratePNToLID(_ context.Context, number, hidden types.JID) error {
	defer m.lock()()
	move(m.sessions, number.SignalAddressUser(), hidden.SignalAddressUser())
	move(m.identities, number.SignalAddressUser(), hidden.SignalAddressUser())
	return nil
}

func move[T any](table map[string]T, from, to string) {
	for _, address := range slices.Collect(maps.Keys(table)) {
		if rest, ours := strings.CutPrefix(address, from+":"); ours {
			table[to+":"+rest] = table[address]
			delete(table, address)
		}
	}
}

func (m *memory) generate() *keys.PreKey {
	m.lastPreKey++
	key := keys.NewPreKey(m.lastPreKey)
	m.preKeys[key.KeyID] = key
	return key
}

func (m *memory) GetOrGenPreKeys(_ context.Context, count uint32) ([]*keys.PreKey, error) {
	defer m.lock()()
	var fresh []*keys.PreKey
	for _, id := range slices.Sorted(maps.Keys(m.preKeys)) {
		if id > m.uploaded && uint32(len(fresh)) < count {
			fresh = append(fresh, m.preKeys[id])
		}
	}
	for uint32(len(fresh)) < count {
		fresh = append(fresh, m.generate())
	}
	return fresh, nil
}

func (m *memory) GenOnePreKey(context.Context) (*keys.PreKey, error) {
	defer m.lock()()
	return m.generate(), nil
}

func (m *memory) GetPreKey(_ context.Context, id uint32) (*keys.PreKey, error) {
	defer m.lock()()
	return m.preKeys[id], nil
}

func (m *memory) RemovePreKey(_ context.Context, id uint32) error {
	defer m.lock()()
	delete(m.preKeys, id)
	return nil
}

func (m *memory) MarkPreKeysAsUploaded(_ context.Context, upTo uint32) error {
	defer m.lock()()
	m.uploaded = max(m.uploaded, upTo)
	return nil
}

func (m *memory) UploadedPreKeyCount(context.Context) (int, error) {
	defer m.lock()()
	count := 0
	for id := range m.preKeys {
		if id <= m.uploaded {
			count++
		}
	}
	return count, nil
}

func (m *memory) PutAppStateSyncKey(_ context.Context, id []byte, key store.AppStateSyncKey) error {
	defer m.lock()()
	m.appStateKeys[string(id)], m.latestKey = key, id
	return nil
}

func (m *memory) GetAppStateSyncKey(_ context.Context, id []byte) (*store.AppStateSyncKey, error) {
	defer m.lock()()
	if key, found := m.appStateKeys[string(id)]; found {
		return &key, nil
	}
	return nil, nil
}

func (m *memory) GetLatestAppStateSyncKeyID(context.Context) ([]byte, error) {
	defer m.lock()()
	return m.latestKey, nil
}

func (m *memory) PutAppStateVersion(_ context.Context, name string, number uint64, hash [128]byte) error {
	defer m.lock()()
	m.versions[name] = version{number, hash}
	return nil
}

func (m *memory) GetAppStateVersion(_ context.Context, name string) (uint64, [128]byte, error) {
	defer m.lock()()
	return m.versions[name].number, m.versions[name].hash, nil
}

func (m *memory) DeleteAppStateVersion(_ context.Context, name string) error {
	defer m.lock()()
	delete(m.versions, name)
	return nil
}

func (m *memory) PutAppStateMutationMACs(_ context.Context, name string, _ uint64, macs []store.AppStateMutationMAC) error {
	defer m.lock()()
	for _, mac := range macs {
		m.macs[name+string(mac.IndexMAC)] = mac.ValueMAC
	}
	return nil
}

func (m *memory) DeleteAppStateMutationMACs(_ context.Context, name string, indexes [][]byte) error {
	defer m.lock()()
	for _, index := range indexes {
		delete(m.macs, name+string(index))
	}
	return nil
}

func (m *memory) GetAppStateMutationMAC(_ context.Context, name string, index []byte) ([]byte, error) {
	defer m.lock()()
	return m.macs[name+string(index)], nil
}

func (m *memory) PutLIDMapping(_ context.Context, hidden, number types.JID) error {
	defer m.lock()()
	m.lids[hidden.ToNonAD().String()], m.lids[number.ToNonAD().String()] = number.ToNonAD(), hidden.ToNonAD()
	return nil
}

func (m *memory) PutManyLIDMappings(ctx context.Context, mappings []store.LIDMapping) error {
	for _, mapping := range mappings {
		_ = m.PutLIDMapping(ctx, mapping.LID, mapping.PN)
	}
	return nil
}

// other is the account's other address, for the same device.
func (m *memory) other(jid types.JID) types.JID {
	defer m.lock()()
	found := m.lids[jid.ToNonAD().String()]
	if !found.IsEmpty() {
		found.Device = jid.Device
	}
	return found
}

func (m *memory) GetPNForLID(_ context.Context, hidden types.JID) (types.JID, error) {
	return m.other(hidden), nil
}

func (m *memory) GetLIDForPN(_ context.Context, number types.JID) (types.JID, error) {
	return m.other(number), nil
}

func (m *memory) GetManyLIDsForPNs(_ context.Context, numbers []types.JID) (map[types.JID]types.JID, error) {
	found := map[types.JID]types.JID{}
	for _, number := range numbers {
		if hidden := m.other(number); !hidden.IsEmpty() {
			found[number] = hidden
		}
	}
	return found, nil
}
