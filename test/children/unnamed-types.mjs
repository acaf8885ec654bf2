// Tells which types of the package the exported declarations of an entry name, and which of those the entry does not export.
// What an exported one is made of (what it extends, the parts of an intersection, an alias in a union) needs no name; it is
// looked through.
// argv: a TypeScript, the folder of the package, and the declarations of the entry.
import { sep } from 'node:path';

const [compiler, folder, entry] = process.argv.slice(2);
const { default: ts } = await import(compiler);
const program = ts.createProgram([entry], {
  module: ts.ModuleKind.NodeNext,
  target: ts.ScriptTarget.ES2022,
  noLib: true, // names are enough
  types: [],
});
const checker = program.getTypeChecker();
const isAlias = (symbol) => (symbol.flags & ts.SymbolFlags.Alias) !== 0;
const original = (symbol) => (isAlias(symbol) ? checker.getAliasedSymbol(symbol) : symbol);
const isOurs = ({ declarations = [] }) =>
  declarations.some(
    (node) => ts.isSourceFile(node.parent) && node.getSourceFile().fileName.startsWith(`${folder}${sep}`),
  );

const module = checker.getSymbolAtLocation(program.getSourceFile(entry));
const exported = new Set(checker.getExportsOfModule(module).map(original));
const looked = new Set();
const named = new Set();
const unnamed = new Set();
for (const symbol of exported) lookInto(symbol, symbol.name);

function lookInto(symbol, owner) {
  if (looked.has(symbol)) return;
  looked.add(symbol);
  for (const declaration of symbol.declarations) visit(declaration, owner);
}

function visit(node, owner) {
  if (ts.canHaveModifiers(node) && ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Private) return;
  const name = nameIn(node);
  const found = name && checker.getSymbolAtLocation(name);
  const symbol = found && original(found);
  if (symbol && isOurs(symbol)) {
    named.add(symbol.name);
    if (!exported.has(symbol)) {
      if (isPart(node, symbol)) lookInto(symbol, owner);
      else unnamed.add(`${owner}: ${symbol.name}`);
    }
  }
  ts.forEachChild(node, (child) => visit(child, owner));
}

function nameIn(node) {
  if (ts.isTypeReferenceNode(node)) return node.typeName;
  if (ts.isExpressionWithTypeArguments(node)) return node.expression;
  if (ts.isImportTypeNode(node)) return node.qualifier;
  return ts.isTypeQueryNode(node) ? node.exprName : undefined;
}

function isPart({ parent }, symbol) {
  const isAliasInUnion = ts.isUnionTypeNode(parent) && (symbol.flags & ts.SymbolFlags.TypeAlias) !== 0;
  const isJoined = isAliasInUnion || ts.isIntersectionTypeNode(parent) || ts.isParenthesizedTypeNode(parent);
  return isJoined ? isPart(parent, symbol) : ts.isHeritageClause(parent) || ts.isTypeAliasDeclaration(parent);
}

console.log(JSON.stringify({ named: [...named].sort(), unnamed: [...unnamed].sort() }));
